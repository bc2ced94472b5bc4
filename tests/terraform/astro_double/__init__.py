"""A double of the Terraform provider astronomer/astro 1.5.2, and a fake Astro API behind it."""
