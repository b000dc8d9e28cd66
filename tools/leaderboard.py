"""Add, list, show, compare and verify records, or build the page of them."""

from mmrev.leaderboard.cli import main

if __name__ == "__main__":
    main()
