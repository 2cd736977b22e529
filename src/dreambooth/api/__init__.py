"""The package as a library: what `import dreambooth` offers."""
