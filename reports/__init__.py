"""Tables, findings and figures as pure functions of result rows."""
