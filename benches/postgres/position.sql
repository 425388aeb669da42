SELECT counted_to, balance, eligible, weight FROM positions WHERE account = $1
