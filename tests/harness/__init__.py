"""What tests through a real mount need: a demo server of their own and mounts of it, in processes of their own."""
