"""The container engine of this machine (Docker or Podman), and what runs beside each container."""
