"""A hook of mkdocs: the website gets the pictures of `assets/`, which lies beside the folder that mkdocs reads."""

from pathlib import Path

from mkdocs.structure.files import File


def on_files(files, config):
    for file in sorted((Path(config.docs_dir).parent / "assets").iterdir()):
        files.append(File.generated(config, f"assets/{file.name}", abs_src_path=str(file)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as GitHub needs them, which leave mkdocs' folder, lead to where the pictures are on the website."""
    above = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({above}../assets/", f"]({above}assets/")
