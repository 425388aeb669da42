SELECT distribution, weight, amount FROM payouts WHERE account = $1 ORDER BY distribution DESC LIMIT 1000
