variable "region" {
  description = "The AWS region of the state bucket."
  type        = string
}
