"""The people of a team: who calls, with which PixelDojo key, and what the operator has done."""
