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
    error_message = "a job of another repository, or outside its environment, gets no role"
  }
}

run "refuses_a_repository_that_is_an_address" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  variables {
    repository = "https://github.com/example/airlock"
  }

  expect_failures = [var.repository]
}

run "refuses_a_repository_without_its_owner" {
  command = plan

  module {
    source = "./modules/ci_role"
  }

  variables {
    repository = "airlock"
  }

  expect_failures = [var.repository]
}
