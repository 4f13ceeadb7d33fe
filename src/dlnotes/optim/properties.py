check_rule = None
