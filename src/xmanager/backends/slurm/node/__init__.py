"""What runs on the nodes of a cluster: lines of shell, what they read, and the records that they leave."""
