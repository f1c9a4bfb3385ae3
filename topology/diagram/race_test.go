//go:build race

package diagram

const slow = 10
