"""The rules of money and time: the only place that decides to pay, to repeat, or to wait."""
