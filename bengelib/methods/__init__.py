"""Methods of self-supervised learning, each in a module that holds what it adds to the frame in `ssl`."""
