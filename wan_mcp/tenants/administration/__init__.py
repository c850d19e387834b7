"""What an operator does with people, wallets and limits. Every act leaves a row in the audit."""
