SELECT
    employee_name,
    sum(hours_worked) AS ytd_hours_worked,
    sum(pre_tax_earnings) AS ytd_pre_tax_earnings,
    sum(post_tax_earnings) AS ytd_post_tax_earnings
FROM daily_operations.labor
WHERE labor_date BETWEEN date_trunc('year', %(as_of)s::date)::date AND %(as_of)s
GROUP BY employee_name
