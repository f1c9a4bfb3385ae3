// Package outbox stores messages in the database transaction that makes the change they announce, and publishes them
// afterwards (transactional outbox). A message is published if and only if its transaction commits, at least once, across
// crashes of any process.
package outbox
