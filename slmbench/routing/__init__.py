"""Which adapter a request goes to, by the request's text alone; and what that costs against the best choice."""
