"""Records of what was measured or published, and the tables made of them."""
