"""Trains the bundled model from scratch: training images, autoencoder, text encoder, UNet, judge and eye."""
