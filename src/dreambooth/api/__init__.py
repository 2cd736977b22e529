"""The package as a library: the functions of `import dreambooth`."""
