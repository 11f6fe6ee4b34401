"""RunPod's callbacks: the URL it is given, and the server that receives them."""
