"""What people run to answer a question about the suite itself."""
