"""What each result is made from, and the frames of a video by what they are made from."""
