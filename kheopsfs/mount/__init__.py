"""The kernel's side: pyfuse3 handlers, inodes, file handles, errno, and the life of a mount. Decides nothing itself."""
