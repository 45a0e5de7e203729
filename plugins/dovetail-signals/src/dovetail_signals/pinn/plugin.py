"""What this package offers for differential equations. Imports no torch: listing parts must cost nothing."""
