// Package wire is what every room needs of the protocol: calls that are bounded by ctx, checks
// before the wire, and classes of errors.
package wire
