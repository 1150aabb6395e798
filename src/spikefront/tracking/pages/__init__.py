"""What people look at: pages, figures, terminal."""
