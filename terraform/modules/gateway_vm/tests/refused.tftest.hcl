# SPDX-License-Identifier: Apache-2.0

# What is not let in, each with its message.

mock_provider "libvirt" {}

variables {
  name       = "gw-a-1"
  segment    = "plant-a"
  image      = "/srv/lockgate/lockgate.raw"
  interfaces = [{ name = "management", bridge = "br0", addresses = ["192.0.2.11/24"], gateway = "192.0.2.1" }]
  management = {
    networks        = ["203.0.113.0/24"]
    authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"]
  }
}

run "a_name_with_capitals" {
  command = plan

  variables {
    name = "GW-A-1"
  }

  expect_failures = [var.name]
}

run "a_name_with_empty" {
  command = plan

  variables {
    name = ""
  }

  expect_failures = [var.name]
}

run "a_name_with_space" {
  command = plan

  variables {
    name = "gw a"
  }

  expect_failures = [var.name]
}

run "a_name_with_shell" {
  command = plan

  variables {
    name = "gw-$(reboot)"
  }

  expect_failures = [var.name]
}

run "a_name_with_backquotes" {
  command = plan

  variables {
    name = "gw-`reboot`"
  }

  expect_failures = [var.name]
}

run "a_name_with_semicolon" {
  command = plan

  variables {
    name = "gw;reboot"
  }

  expect_failures = [var.name]
}

run "a_name_with_template" {
  command = plan

  variables {
    name = "gw-{{ 7*7 }}"
  }

  expect_failures = [var.name]
}

run "a_name_with_markup" {
  command = plan

  variables {
    name = "gw</name><x>"
  }

  expect_failures = [var.name]
}

run "a_name_with_path" {
  command = plan

  variables {
    name = "../gw"
  }

  expect_failures = [var.name]
}

run "a_name_with_newline" {
  command = plan

  variables {
    name = "gw\na"
  }

  expect_failures = [var.name]
}

run "a_name_with_leading_hyphen" {
  command = plan

  variables {
    name = "-gw"
  }

  expect_failures = [var.name]
}

run "a_name_with_trailing_hyphen" {
  command = plan

  variables {
    name = "gw-"
  }

  expect_failures = [var.name]
}

run "a_name_with_quote" {
  command = plan

  variables {
    name = "gw'"
  }

  expect_failures = [var.name]
}

run "a_name_with_unicode" {
  command = plan

  variables {
    name = "gẃ"
  }

  expect_failures = [var.name]
}

run "a_name_with_dot" {
  command = plan

  variables {
    name = "gw.a"
  }

  expect_failures = [var.name]
}

run "a_name_of_64" {
  command = plan

  variables {
    name = "a234567890123456789012345678901234567890123456789012345678901234"
  }

  expect_failures = [var.name]
}

run "a_segment_with_template" {
  command = plan

  variables {
    segment = "{{ 7*7 }}"
  }

  expect_failures = [var.segment]
}

run "an_image_from_elsewhere" {
  command = plan

  variables {
    image = "https://images.example/lockgate.raw"
  }

  expect_failures = [var.image]
}

run "an_image_with_shell" {
  command = plan

  variables {
    image = "/srv/$(reboot).raw"
  }

  expect_failures = [var.image]
}

run "a_pool_with_markup" {
  command = plan

  variables {
    pool = "default\"/>"
  }

  expect_failures = [var.pool]
}

run "a_disk_too_small" {
  command = plan

  variables {
    disk_gib = 3
  }

  expect_failures = [var.disk_gib]
}

run "a_disk_in_parts" {
  command = plan

  variables {
    disk_gib = 40.5
  }

  expect_failures = [var.disk_gib]
}

run "too_little_memory" {
  command = plan

  variables {
    memory_mib = 128
  }

  expect_failures = [var.memory_mib]
}

run "no_processor" {
  command = plan

  variables {
    vcpus = 0
  }

  expect_failures = [var.vcpus]
}

run "another_hypervisor" {
  command = plan

  variables {
    domain_type = "xen"
  }

  expect_failures = [var.domain_type]
}

run "a_processor_with_markup" {
  command = plan

  variables {
    cpu = "<model>"
  }

  expect_failures = [var.cpu]
}

run "a_firmware_elsewhere" {
  command = plan

  variables {
    firmware = { code = "../OVMF.fd" }
  }

  expect_failures = [var.firmware]
}

run "a_console_with_markup" {
  command = plan

  variables {
    console_log = "/var/log/x\" append=\"off"
  }

  expect_failures = [var.console_log]
}

run "no_interface" {
  command = plan

  variables {
    interfaces = []
  }

  expect_failures = [var.interfaces]
}

run "an_interface_name_with_template" {
  command = plan

  variables {
    interfaces = [{ name = "{{ x }}", bridge = "br0", addresses = ["192.0.2.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "a_bridge_with_shell" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0;id", addresses = ["192.0.2.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "an_address_without_prefix" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1"] }]
  }

  expect_failures = [var.interfaces]
}

run "an_address_that_is_none" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.999/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "an_address_with_more" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24\nGateway=192.0.2.2"] }]
  }

  expect_failures = [var.interfaces]
}

run "neither_network_nor_bridge" {
  command = plan

  variables {
    interfaces = [{ name = "a", addresses = ["192.0.2.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "network_and_bridge" {
  command = plan

  variables {
    interfaces = [{ name = "a", network_id = "7a9d5b7e-0a52-4e4c-9b3a-0d8d3e1c2f11", bridge = "br0", addresses = ["192.0.2.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "the_same_interface_twice" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"] }, { name = "a", bridge = "br1", addresses = ["192.0.3.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "a_multicast_mac" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", mac = "53:54:00:00:00:01", addresses = ["192.0.2.1/24"] }]
  }

  expect_failures = [var.interfaces]
}

run "a_gateway_that_is_none" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], gateway = "router" }]
  }

  expect_failures = [var.interfaces]
}

run "two_gateways" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], gateway = "192.0.2.2" }, { name = "b", bridge = "br1", addresses = ["192.0.3.1/24"], gateway = "192.0.3.2" }]
  }

  expect_failures = [var.interfaces]
}

run "a_route_via_nowhere" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], routes = [{ to = "10.0.0.0/8", via = "up" }] }]
  }

  expect_failures = [var.interfaces]
}

run "a_name_server_by_name" {
  command = plan

  variables {
    name_servers = ["dns.example"]
  }

  expect_failures = [var.name_servers]
}

run "a_time_server_by_name" {
  command = plan

  variables {
    time_servers = ["ntp.example"]
  }

  expect_failures = [var.time_servers]
}

run "no_management_network" {
  command = plan

  variables {
    management = { networks = [], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "management_from_everywhere" {
  command = plan

  variables {
    management = { networks = ["0.0.0.0/0"], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "management_from_everywhere_v6" {
  command = plan

  variables {
    management = { networks = ["::/0"], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "nobody_gets_in" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], authorized_keys = [] }
  }

  expect_failures = [var.management]
}

run "a_key_with_options" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], authorized_keys = ["command=\"id\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "a_key_on_two_lines" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "a_private_key" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], authorized_keys = ["-----BEGIN OPENSSH PRIVATE KEY-----"] }
  }

  expect_failures = [var.management]
}

run "a_user_ca_that_is_none" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], user_ca = "yes" }
  }

  expect_failures = [var.management]
}

run "a_segment_folder_with_shell" {
  command = plan

  variables {
    segment_folder = "$(id)"
  }

  expect_failures = [var.segment_folder]
}

run "a_segment_folder_without_policy" {
  command = plan

  variables {
    segment_folder = "templates"
  }

  expect_failures = [libvirt_domain.gateway]
}

run "a_private_key_in_the_segment_folder" {
  command = plan

  variables {
    segment_folder = "tests/secret"
  }

  expect_failures = [libvirt_domain.gateway]
}

run "a_credential_s_name_with_markup" {
  command = plan

  variables {
    credentials = { "x</entry>" = "1" }
  }

  expect_failures = [var.credentials]
}

run "a_credential_of_the_module_s_own" {
  command = plan

  variables {
    credentials = { "lockgate.firstboot" = "{}" }
  }

  expect_failures = [var.credentials]
}

run "a_password_among_credentials" {
  command = plan

  variables {
    credentials = { "passwd.hashed-password.root" = "x" }
  }

  expect_failures = [var.credentials]
}

run "a_private_key_among_credentials" {
  command = plan

  variables {
    credentials = { "tls.key" = "-----BEGIN PRIVATE KEY-----" }
  }

  expect_failures = [var.credentials]
}

run "more_than_smbios_carries" {
  command = plan

  variables {
    credentials = { big = join("", [for i in range(700) : sha256(tostring(i))]) }
  }

  expect_failures = [libvirt_domain.gateway]
}

run "an_address_for_a_management_network" {
  command = plan

  variables {
    management = { networks = ["203.0.113.5/24"], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "a_key_of_another_kind_inside" {
  command = plan

  variables {
    management = { networks = ["203.0.113.0/24"], authorized_keys = ["ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"] }
  }

  expect_failures = [var.management]
}

run "a_gateway_outside_its_network" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], gateway = "198.51.100.1" }]
  }

  expect_failures = [var.interfaces]
}

run "a_route_via_another_network" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], routes = [{ to = "10.0.0.0/8", via = "198.51.100.1" }] }]
  }

  expect_failures = [var.interfaces]
}

run "a_route_to_an_address" {
  command = plan

  variables {
    interfaces = [{ name = "a", bridge = "br0", addresses = ["192.0.2.1/24"], routes = [{ to = "10.1.2.3/8", via = "192.0.2.2" }] }]
  }

  expect_failures = [var.interfaces]
}

run "secrets_of_first_boot" {
  command = plan

  variables {
    credentials = { "lockgate.credentials" = "{}" }
  }

  expect_failures = [var.credentials]
}

run "a_hidden_file_in_the_segment_folder" {
  command = plan

  variables {
    segment_folder = "tests/hidden"
  }

  expect_failures = [libvirt_domain.gateway]
}
