() => new MutationObserver(() => {
  // Gradio gives images no text, and names its buttons by other words than those on them.
  for (const image of document.querySelectorAll('.image-container img')) {
    const label = image.closest('.block')?.querySelector('[data-testid=block-label]');
    if (label && !image.alt) image.alt = label.textContent.trim();
  }
  for (const button of document.querySelectorAll('.upload-container, .thumbnail-item')) {
    const image = button.querySelector('.caption-label') && button.querySelector('img');
    if (image) image.alt = '';
    if (button.innerText.trim()) button.removeAttribute('aria-label');
  }
  for (const empty of document.querySelectorAll('.empty[aria-label]')) empty.role = 'img';
}).observe(document.body, {childList: true, subtree: true})
