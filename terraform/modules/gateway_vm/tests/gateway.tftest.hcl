# SPDX-License-Identifier: Apache-2.0

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

run "a_domain_with_uefi_tpm_and_identity" {
  command = plan

  assert {
    condition     = libvirt_domain.gateway.machine == "q35" && libvirt_domain.gateway.type == "kvm" && libvirt_domain.gateway.firmware == "/usr/share/OVMF/OVMF_CODE_4M.fd"
    error_message = "Not a UEFI machine under KVM by default."
  }

  assert {
    condition     = libvirt_domain.gateway.tpm[0].backend_version == "2.0" && libvirt_domain.gateway.tpm[0].backend_persistent_state && strcontains(libvirt_domain.gateway.xml[0].xslt, "tpm-crb")
    error_message = "No TPM 2.0 that outlives the domain."
  }

  assert {
    condition     = strcontains(libvirt_domain.gateway.xml[0].xslt, "<uuid>${uuidv5("url", "lockgate:plant-a/gw-a-1")}</uuid>")
    error_message = "The machine's identity is not its name's."
  }

  assert {
    condition     = strcontains(libvirt_domain.gateway.xml[0].xslt, "io.systemd.credential.binary:lockgate.firstboot=${base64encode(jsonencode(output.firstboot))}</entry>")
    error_message = "First boot is not told by SMBIOS."
  }

  assert {
    condition     = !strcontains(libvirt_domain.gateway.xml[0].xslt, "lockgate.segment=")
    error_message = "A policy nobody gave."
  }

  assert {
    condition     = libvirt_volume.disk.size == 40 * 1024 * 1024 * 1024 && libvirt_volume.image.source == "/srv/lockgate/lockgate.raw"
    error_message = "The disk is not 40 GiB over the image."
  }
}

run "a_mac_address_is_derived_and_stays" {
  command = plan

  assert {
    condition     = output.interfaces.management.mac == "52:54:00:${join(":", regexall("..", substr(sha256("plant-a/gw-a-1/management"), 0, 6)))}" && libvirt_domain.gateway.network_interface[0].mac == upper(output.interfaces.management.mac)
    error_message = "The MAC address is not the derived one."
  }
}

run "first_boot_is_told_what_it_needs" {
  command = plan

  variables {
    interfaces = [
      { name = "management", bridge = "br0", mac = "52:54:00:AA:bb:01", addresses = ["192.0.2.11/24", "2001:db8::11/64"], routes = [{ to = "203.0.113.0/24", via = "192.0.2.254" }] },
      { name = "targets", network_id = "7a9d5b7e-0a52-4e4c-9b3a-0d8d3e1c2f11", addresses = ["198.51.100.11/24"] },
    ]
    name_servers = ["203.0.113.2"]
    time_servers = ["2001:db8::123"]
  }

  assert {
    condition = jsonencode(output.firstboot) == jsonencode({
      version = 1
      name    = "gw-a-1"
      segment = "plant-a"
      interfaces = [
        { name = "management", mac = "52:54:00:aa:bb:01", addresses = ["192.0.2.11/24", "2001:db8::11/64"], gateway = null, routes = [{ to = "203.0.113.0/24", via = "192.0.2.254" }] },
        { name = "targets", mac = "52:54:00:${join(":", regexall("..", substr(sha256("plant-a/gw-a-1/targets"), 0, 6)))}", addresses = ["198.51.100.11/24"], gateway = null, routes = [] },
      ]
      name_servers = ["203.0.113.2"]
      time_servers = ["2001:db8::123"]
      management   = { networks = ["203.0.113.0/24"], authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"], user_ca = "" }
    })
    error_message = "What first boot is told is not what was given."
  }
}

run "the_first_policy_is_policy_trust_and_settings" {
  command = plan

  variables {
    segment_folder = "tests/segment"
  }

  assert {
    condition = strcontains(libvirt_domain.gateway.xml[0].xslt, "io.systemd.credential.binary:lockgate.segment=${base64gzip(jsonencode({
      "gateway.yaml"          = file("tests/segment/gateway.yaml")
      "policy/resources.yaml" = file("tests/segment/policy/resources.yaml")
      "trust/ca.pem"          = file("tests/segment/trust/ca.pem")
    }))}</entry>")
    error_message = "The first policy is not gateway.yaml and the files of policy/ and trust/, or more than those."
  }
}

run "other_public_credentials_go_along" {
  command = plan

  variables {
    credentials = { "ssh.authorized_keys.root" = "line <one> & \"two\" $(reboot) {{ 7*7 }}\n" }
  }

  assert {
    condition     = strcontains(libvirt_domain.gateway.xml[0].xslt, "<entry>io.systemd.credential.binary:ssh.authorized_keys.root=${base64encode(var.credentials["ssh.authorized_keys.root"])}</entry>")
    error_message = "The credential is not there, or not as base64."
  }
}

run "a_model_of_processor" {
  command = plan

  variables {
    cpu         = "Nehalem"
    domain_type = "qemu"
    console_log = "/var/log/gw-a-1.log"
  }

  assert {
    condition     = strcontains(libvirt_domain.gateway.xml[0].xslt, "<model fallback=\"forbid\">Nehalem</model>") && strcontains(libvirt_domain.gateway.xml[0].xslt, "<log file=\"/var/log/gw-a-1.log\"")
    error_message = "Neither the model nor the console's log reached the domain."
  }
}
