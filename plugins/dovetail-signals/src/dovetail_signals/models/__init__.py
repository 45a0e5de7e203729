"""Networks for signals [channels, time], spectrograms [channels, frequencies, times], or several representations."""
