"""A double of the Terraform provider astronomer/astro 1.5.2."""
