"""What every stage of the build stands on: files, receipts, programs, messages."""
