"""Teachers and encoders: the protocols that they speak, and the clients that speak them."""
