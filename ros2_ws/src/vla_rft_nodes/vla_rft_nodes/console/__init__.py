"""The operator's page: what it shows, who may do what, the server behind it. `console_node` is the shell."""
