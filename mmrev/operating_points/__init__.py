"""The stitches of a trained model: costs, ratings, plot, choice, export."""
