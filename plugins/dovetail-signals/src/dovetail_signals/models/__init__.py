"""Networks for signals [channels, time], for spectrograms [channels, frequencies, times], and for several at once."""
