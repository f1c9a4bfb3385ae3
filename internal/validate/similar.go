package validate

import "slices"

// Similar returns the known name that was probably meant by name: it differs by at most two typing errors, or by a missing
// "x-", as in the policy key "message-ttl". Otherwise Similar returns "".
func Similar(name string, known []string) string {
	for _, k := range slices.Sorted(slices.Values(known)) {
		if k == "x-"+name || distance(name, k) <= 2 {
			return k
		}
	}
	return ""
}

// distance returns the number of bytes to insert, remove or replace to get from a to b, or 3 if the lengths differ by more
// than 2, which bounds the work.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
