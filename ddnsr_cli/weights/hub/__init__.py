"""Files of the Hugging Face Hub; all trouble is a HubError of one line."""
