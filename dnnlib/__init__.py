"""Plain Python that every part uses: errors, configuration, files, run directories, logs, pictures. No torch."""
