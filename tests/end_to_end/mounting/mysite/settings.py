"""A Django project with a page."""

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
SECRET_KEY = "of a test"
