"""`sampan-runtime`: runc's command line over `sampan.runtime`, for engines that bring their own everything else."""
