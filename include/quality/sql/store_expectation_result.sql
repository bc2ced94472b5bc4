INSERT INTO quality.expectation_result (
    validation_id, position, expectation, type, column_name, arguments, severity, verdict,
    observed, observed_number, checked, unexpected, sample
)
VALUES (
    %(validation_id)s, %(position)s, %(expectation)s, %(type)s, %(column_name)s, %(arguments)s, %(severity)s,
    %(verdict)s, %(observed)s, %(observed_number)s, %(checked)s, %(unexpected)s, %(sample)s
)
