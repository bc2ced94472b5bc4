# Astro's own image runs locally (astro dev start) and deployed alike. Its build installs packages.txt and
# requirements.txt and copies what .dockerignore lets through; nothing else is needed here. The tag fixes the runtime
# and the Python; the next line says which Airflow is inside, and tests/test_versions.py compares all of it with uv.lock.
# Airflow 3.3.2
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12
