"""Stand-ins of services on loopback, for development and tests alone; the product never imports one."""
