"""Training the embedded base model from nothing: its pictures, autoencoder, text encoder and UNet, and a judge of them."""
