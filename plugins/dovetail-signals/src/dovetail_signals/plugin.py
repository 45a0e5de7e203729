"""What this package offers for signals. Imports no torch: listing parts must cost nothing."""
