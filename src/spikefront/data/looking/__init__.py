"""What a folder holds, looked at once before training: recordings, pictures, advice, a contact sheet."""
