"""A training report: one HTML page with everything in it. :func:`mlp_dense.report.build.write_report` makes it."""
