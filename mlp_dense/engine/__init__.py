"""What training and testing with mmengine need: configs with checked options, checks before the start, the runner."""
