mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name            = "airlock-dev"
  environment     = "dev"
  region          = "eu-west-1"
  repository      = "example/airlock"
  state_key       = "dev/terraform.tfstate"
  storage_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000001"
  secrets_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "each_role_trusts_one_environment_of_one_repository" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  assert {
    condition = { for role, trust in data.aws_iam_policy_document.trust : role => flatten([
      for condition in trust.statement[0].condition : condition.values if endswith(condition.variable, ":sub")
      ]) } == {
      plan   = ["repo:example/airlock:environment:dev-plan"]
      drift  = ["repo:example/airlock:environment:dev-drift"]
      deploy = ["repo:example/airlock:environment:dev"]
    }
    error_message = "each role must trust exactly one environment of one repository"
  }
}

run "roles_accept_only_tokens_for_aws" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  assert {
    condition = alltrue([for trust in data.aws_iam_policy_document.trust : contains(
      [for condition in trust.statement[0].condition : "${condition.test} ${condition.variable} ${join(",", condition.values)}"],
      "StringEquals token.actions.githubusercontent.com:aud sts.amazonaws.com"
    )])
    error_message = "a token that GitHub issued for another audience must be refused"
  }
}

run "plan_and_drift_change_nothing" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  assert {
    condition     = { for name, role in local.roles : name => length(role.policies) } == { plan = 1, drift = 2, deploy = 4 }
    error_message = "plan must have 1 policy (read the state), drift 2 (also read resources), deploy 4 (also write)"
  }

  assert {
    condition = toset(flatten([for statement in data.aws_iam_policy_document.state_read.statement : statement.actions])) == toset([
      "kms:Decrypt", "s3:GetObject", "s3:ListBucket", "secretsmanager:GetRandomPassword", "secretsmanager:GetSecretValue",
      "ssm:GetParametersByPath",
    ])
    error_message = "the plan of a pull request must not have more permissions than these"
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.state_read.statement :
      endswith(one(statement.resources), ":secret:airlock-dev/placeholder-*")
      if contains(statement.actions, "secretsmanager:GetSecretValue")
    ])
    error_message = "the placeholder must be the only secret that a plan may read"
  }

  assert {
    condition = alltrue([
      for action in flatten([for statement in data.aws_iam_policy_document.read.statement : statement.actions]) :
      can(regex(":(Describe|Get|List|Decrypt)", action))
    ])
    error_message = "drift must have read permissions only"
  }
}

run "deploy_writes_one_role_within_its_boundary" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.write.statement :
      alltrue([for arn in statement.resources : endswith(arn, ":role/airlock-dev-airflow") || strcontains(arn, "aws-service-role")])
      if anytrue([for action in statement.actions : startswith(action, "iam:")])
    ])
    error_message = "the Airflow role must be the only role that deploy may write"
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.write.statement :
      anytrue([for condition in statement.condition : condition.variable == "iam:PermissionsBoundary"])
      if contains(statement.actions, "iam:PutRolePolicy") || contains(statement.actions, "iam:CreateRole")
    ])
    error_message = "deploy may write the Airflow role only with its permissions boundary"
  }
}

run "accepts_a_repository_with_github_ids" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  variables {
    repository = "example@1/airlock@2"
  }

  assert {
    condition     = strcontains(jsonencode(data.aws_iam_policy_document.trust["deploy"].statement), "repo:example@1/airlock@2:environment:dev\"")
    error_message = "the subject must contain the ids of the repository"
  }
}

run "refuses_a_repository_url" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  variables {
    repository = "https://github.com/example/airlock"
  }

  expect_failures = [var.repository]
}

run "refuses_a_repository_without_owner" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  variables {
    repository = "airlock"
  }

  expect_failures = [var.repository]
}
