"""Tasks and plans as jobs of an Azure ML workspace. Only `sdk.py` imports azure-ai-ml; everything else is plain REST."""
