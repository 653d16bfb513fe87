"""Who may call: peer credentials, the group's members, polkit, and the policy over them."""
