"""Networks: links, addresses, firewall and names, as plans that are performed."""
